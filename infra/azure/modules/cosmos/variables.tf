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

variable "dimensions" {
  type = number
}

variable "items" {
  type = number
}

variable "slot_max_throughput" {
  type = number
}

variable "backup_tier" {
  type = string
}

variable "zone_redundant" {
  type = bool
}

variable "subnet_id" {
  type = string
}

variable "zones" {
  type = map(string)
}

variable "workspace_id" {
  type = string
}
