variable "place" {
  description = "Where things are made and what their names and tags are."
  type = object({
    group    = string
    location = string
    prefix   = string
    account  = string
    tags     = map(string)
  })
}

variable "issuer" {
  description = "The cluster's OpenID issuer, which workload identities trust."
  type        = string
}

variable "raw_container_id" {
  type = string
}

variable "runs_container_id" {
  type = string
}

variable "cosmos_account_id" {
  type = string
}

variable "cosmos_account_name" {
  type = string
}

variable "database_scope" {
  type = string
}

variable "vault_id" {
  type = string
}

variable "readers" {
  type = map(string)
}
