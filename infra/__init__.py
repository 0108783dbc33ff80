"""What the pipeline runs on: Terraform, deployments and the local services."""
