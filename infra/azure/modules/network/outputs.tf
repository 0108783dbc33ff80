output "id" {
  value = azurerm_virtual_network.this.id
}

output "nodes_subnet_id" {
  # Nodes have no way out before the NAT gateway is there, and a cluster without one does not start.
  value = azurerm_subnet_nat_gateway_association.nodes.subnet_id
}

output "endpoints_subnet_id" {
  value = azurerm_subnet.endpoints.id
}

output "postgres_subnet_id" {
  value = azurerm_subnet.postgres.id
}

output "zones" {
  description = "Id of each private DNS zone."
  # A zone answers once it is linked.
  value      = { for key, zone in azurerm_private_dns_zone.this : key => zone.id }
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]
}

output "prefect_address" {
  value = one(azurerm_private_dns_a_record.prefect.records)
}

output "prefect_host" {
  value = trimsuffix(azurerm_private_dns_a_record.prefect.fqdn, ".")
}
