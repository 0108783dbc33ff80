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

variable "replication" {
  type = string
}

variable "run_days" {
  type = number
}

variable "compacted_idle_days" {
  type = number
}

variable "soft_delete_days" {
  type = number
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
