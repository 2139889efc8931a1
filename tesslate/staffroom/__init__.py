"""The staff's room: the admin site, its front page, customers, roles and sign-in."""
