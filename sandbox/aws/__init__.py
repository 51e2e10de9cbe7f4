"""A simulated AWS: CloudFormation, CodePipeline; moto answers for every other service."""
