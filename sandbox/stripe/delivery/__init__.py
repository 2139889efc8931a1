"""Webhook delivery: what is to be sent to whom, when, and with which switched-on faults."""
