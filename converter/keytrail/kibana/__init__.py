"""Detection rules in Kibana: their bodies, and bringing a space to hold them."""
