"""The cluster's objects, as templates that Terraform's outputs fill."""
