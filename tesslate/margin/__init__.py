"""What is earned on each customer, plan and model: revenue by Stripe less cost by the gateway.

Revenue comes from plans.revenue_recognition (net of tax, discounts, refunds; by the day), cost from
the day sums of the gateway's spend log (llmkeys.models.UsageDay). Both are US dollars, exact, and
both change for days long past when something late comes in. Margin is nothing stored.

A customer here is whoever pays: an organization for its seats, a user for their own.
"""
