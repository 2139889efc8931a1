"""How money and time move: prices, discounts, invoices, payments, subscriptions, schedules."""
