"""A simulated AWS: CloudFormation and CodePipeline that take their time, over moto's S3 and the rest."""
