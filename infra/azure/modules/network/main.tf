# One network: the cluster's nodes, the private endpoints of the accounts, and the database of the
# Prefect server. Nothing here can be reached from the internet; nodes reach it through a NAT gateway.

locals {
  subnets = {
    nodes     = cidrsubnet(var.address_space, 4, 0)
    endpoints = cidrsubnet(var.address_space, 8, 16)
    postgres  = cidrsubnet(var.address_space, 8, 17)
  }
  zones = {
    blob     = "privatelink.blob.core.windows.net"
    dfs      = "privatelink.dfs.core.windows.net"
    cosmos   = "privatelink.documents.azure.com"
    vault    = "privatelink.vaultcore.azure.net"
    registry = "privatelink.azurecr.io"
    postgres = "${var.place.prefix}.private.postgres.database.azure.com"
    internal = "${var.place.prefix}.internal"
  }
}

resource "azurerm_virtual_network" "this" {
  name                = var.place.prefix
  resource_group_name = var.place.group
  location            = var.place.location
  address_space       = [var.address_space]
  tags                = var.place.tags
}

resource "azurerm_subnet" "nodes" {
  name                            = "nodes"
  resource_group_name             = var.place.group
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.subnets.nodes]
  default_outbound_access_enabled = false
}

resource "azurerm_subnet" "endpoints" {
  name                              = "endpoints"
  resource_group_name               = var.place.group
  virtual_network_name              = azurerm_virtual_network.this.name
  address_prefixes                  = [local.subnets.endpoints]
  default_outbound_access_enabled   = false
  private_endpoint_network_policies = "NetworkSecurityGroupEnabled"
}

resource "azurerm_subnet" "postgres" {
  name                            = "postgres"
  resource_group_name             = var.place.group
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.subnets.postgres]
  default_outbound_access_enabled = false

  delegation {
    name = "postgres"

    service_delegation {
      name    = "Microsoft.DBforPostgreSQL/flexibleServers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_network_security_group" "this" {
  for_each            = local.subnets
  name                = "${var.place.prefix}-${each.key}"
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags

  # The defaults let the network talk to itself and deny what comes from outside. Said here, so that
  # a rule that is added later cannot come before it unnoticed.
  security_rule {
    name                       = "deny-internet"
    priority                   = 4000
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "Internet"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each = {
    nodes     = azurerm_subnet.nodes.id
    endpoints = azurerm_subnet.endpoints.id
    postgres  = azurerm_subnet.postgres.id
  }
  subnet_id                 = each.value
  network_security_group_id = azurerm_network_security_group.this[each.key].id
}

resource "azurerm_public_ip" "out" {
  name                = "${var.place.prefix}-out"
  resource_group_name = var.place.group
  location            = var.place.location
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = var.place.tags
}

resource "azurerm_nat_gateway" "out" {
  name                = "${var.place.prefix}-out"
  resource_group_name = var.place.group
  location            = var.place.location
  sku_name            = "Standard"
  tags                = var.place.tags
}

resource "azurerm_nat_gateway_public_ip_association" "out" {
  nat_gateway_id       = azurerm_nat_gateway.out.id
  public_ip_address_id = azurerm_public_ip.out.id
}

resource "azurerm_subnet_nat_gateway_association" "nodes" {
  subnet_id      = azurerm_subnet.nodes.id
  nat_gateway_id = azurerm_nat_gateway.out.id
}

resource "azurerm_private_dns_zone" "this" {
  for_each            = local.zones
  name                = each.value
  resource_group_name = var.place.group
  tags                = var.place.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each              = local.zones
  name                  = var.place.prefix
  resource_group_name   = var.place.group
  private_dns_zone_name = azurerm_private_dns_zone.this[each.key].name
  virtual_network_id    = azurerm_virtual_network.this.id
  tags                  = var.place.tags
}

# The Prefect server's service takes this address from the internal load balancer.
resource "azurerm_private_dns_a_record" "prefect" {
  name                = "prefect"
  resource_group_name = var.place.group
  zone_name           = azurerm_private_dns_zone.this["internal"].name
  ttl                 = 300
  records             = [cidrhost(local.subnets.nodes, 4000)]
  tags                = var.place.tags
}
