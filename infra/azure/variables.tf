variable "subscription_id" {
  description = "The subscription that everything is made in."
  type        = string
}

variable "environment" {
  description = "Which of the environments this is; part of every name."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2,6}$", var.environment))
    error_message = "An environment's name is two to six small letters, such as dev or prod."
  }
}

variable "name" {
  description = "First part of every name; those that are public addresses end with `suffix` as well."
  type        = string
  default     = "hyperrec"

  validation {
    condition     = can(regex("^[a-z]{3,10}$", var.name))
    error_message = "The name is three to ten small letters: accounts of storage allow no more."
  }
}

variable "suffix" {
  description = "Makes public addresses one's own: three to six small letters or digits."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,6}$", var.suffix))
    error_message = "The suffix is three to six small letters or digits."
  }
}

variable "location" {
  description = "Azure region; Cosmos DB, the cluster's machines and the GPUs must be offered there."
  type        = string
}

variable "owner" {
  description = "Who answers for this environment and is written to about alerts and costs: a mail address."
  type        = string
}

variable "image_version" {
  description = "Version of hyperrec's images, as the release workflow pushed them."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9a-z.]+)?$", var.image_version))
    error_message = "Give a released version such as 0.1.0: a tag that moves cannot be rolled back."
  }
}

variable "dimensions" {
  description = "Numbers in an item's vector, d+1 for the hyperboloid. Changing it makes the slots' containers anew."
  type        = number

  validation {
    condition     = var.dimensions >= 1 && var.dimensions <= 4096 && floor(var.dimensions) == var.dimensions
    error_message = "Cosmos DB indexes vectors of 1 to 4096 numbers."
  }
}

variable "items" {
  description = "Items in a version, about: beyond 505 dimensions it decides the kind of vector index."
  type        = number
}

variable "slot_max_throughput" {
  description = "RU/s that one slot's container may scale to; it idles at a tenth."
  type        = number

  validation {
    condition     = var.slot_max_throughput >= 1000 && var.slot_max_throughput % 1000 == 0
    error_message = "Autoscale goes in thousands, from 1000."
  }
}

variable "backup_tier" {
  description = "Cosmos DB's continuous backup: Continuous7Days or Continuous30Days."
  type        = string

  validation {
    condition     = contains(["Continuous7Days", "Continuous30Days"], var.backup_tier)
    error_message = "Continuous backup keeps 7 or 30 days."
  }
}

variable "storage_replication" {
  description = "How blobs are kept: LRS in one building, ZRS in three, GZRS also in another region."
  type        = string
}

variable "run_days" {
  description = "Days until a run, its quarantined rows with it, is deleted."
  type        = number

  validation {
    condition     = var.run_days >= 60
    error_message = "A run is needed as long as its version may be active, previous or a start: keep 60 days."
  }
}

variable "compacted_idle_days" {
  description = "Days without any reading until a kept day is deleted: it has left the window, and can be made again."
  type        = number
  default     = 30
}

variable "soft_delete_days" {
  description = "Days in which deleted blobs and containers can be brought back."
  type        = number
}

variable "readers" {
  description = "Object ids of the services' identities that read recommendations."
  type        = map(string)
  default     = {}
}

variable "pools" {
  description = "The cluster's node pools for jobs; a pool with minimum 0 costs nothing between runs."
  type = map(object({
    vm_size = string
    minimum = number
    maximum = number
    spot    = optional(bool, false)
  }))

  validation {
    condition     = alltrue([for pool in ["services", "cpu", "spark", "gpu"] : contains(keys(var.pools), pool)])
    error_message = "The job templates need the pools services, cpu, spark and gpu."
  }
  validation {
    condition     = var.pools["gpu"].minimum == 0
    error_message = "GPUs are the dearest machines here: their pool must scale to zero."
  }
}

variable "administrators" {
  description = "Object ids of the Entra groups that administer the cluster."
  type        = list(string)
}

variable "cluster_tier" {
  description = "Free, or Standard with an uptime guarantee of the cluster's API."
  type        = string
}

variable "postgres" {
  description = "The database of the Prefect server."
  type = object({
    sku            = string
    storage_mb     = number
    backup_days    = number
    zone_redundant = bool
    geo_backup     = bool
  })
}

variable "password_version" {
  description = "Raise it by one to give the Prefect server's database and API new passwords."
  type        = number
  default     = 1
}

variable "address_space" {
  description = "The network's addresses: a /16 that nothing it is peered with uses."
  type        = string
  default     = "10.64.0.0/16"
}

variable "monthly_budget" {
  description = "In the subscription's currency; the owner is told at 80 %, at 100 % and when 110 % is forecast."
  type        = number
}

variable "budget_start" {
  description = "First day of the month from which the budget counts, such as 2026-12-01T00:00:00Z."
  type        = string
}
