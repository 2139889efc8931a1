"""The customer's pages: pricing, sign-in, account, playground. They read through the apps'
selectors; every change goes through the public API, from plain JavaScript modules."""
