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

variable "subnet_id" {
  type = string
}

variable "zones" {
  type = map(string)
}
