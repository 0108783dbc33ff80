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

variable "group_id" {
  type = string
}

variable "owner" {
  type = string
}

variable "monthly_budget" {
  type = number
}

variable "budget_start" {
  type = string
}

variable "cosmos_id" {
  type = string
}

variable "storage_id" {
  type = string
}

variable "postgres_id" {
  type = string
}

variable "cluster_id" {
  type = string
}
