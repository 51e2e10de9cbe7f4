"""Evaluates CloudFormation's intrinsic functions as far as their values are known before deployment."""
