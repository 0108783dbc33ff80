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

variable "tier" {
  type = string
}

variable "pools" {
  type = map(object({
    vm_size = string
    minimum = number
    maximum = number
    spot    = optional(bool, false)
  }))
}

variable "administrators" {
  type = list(string)
}

variable "subnet_id" {
  type = string
}

variable "network_id" {
  type = string
}

variable "registry_id" {
  type = string
}

variable "workspace_id" {
  type = string
}
