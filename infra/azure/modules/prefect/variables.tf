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

variable "postgres" {
  type = object({
    sku            = string
    storage_mb     = number
    backup_days    = number
    zone_redundant = bool
    geo_backup     = bool
  })
}

variable "password_version" {
  type = number
}

variable "subnet_id" {
  type = string
}

variable "zone_id" {
  type = string
}

variable "vault_id" {
  type = string
}

variable "workspace_id" {
  type = string
}
