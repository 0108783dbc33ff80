# The registry of the images. Premium, because no other kind has private endpoints.

resource "azurerm_container_registry" "this" {
  #checkov:skip=CKV_AZURE_164: Content trust is being retired with Notary v1; images are pinned by version and attested by the release workflow.
  #checkov:skip=CKV_AZURE_165: One region: the cluster that pulls is in the same one, and images are built again from a tag.
  #checkov:skip=CKV_AZURE_166: The workflow scans before it pushes; quarantine would need a scanner with rights to release images.
  name                = var.place.account
  resource_group_name = var.place.group
  location            = var.place.location
  tags                = var.place.tags
  sku                 = "Premium"

  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = false
  data_endpoint_enabled         = true
  zone_redundancy_enabled       = true
  retention_policy_in_days      = 30
  network_rule_bypass_option    = "AzureServices"
}

resource "azurerm_private_endpoint" "this" {
  name                = "${var.place.prefix}-registry"
  resource_group_name = var.place.group
  location            = var.place.location
  subnet_id           = var.subnet_id
  tags                = var.place.tags

  private_service_connection {
    name                           = "registry"
    private_connection_resource_id = azurerm_container_registry.this.id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "registry"
    private_dns_zone_ids = [var.zones["registry"]]
  }
}
