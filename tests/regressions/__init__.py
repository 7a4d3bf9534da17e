"""One test a known bug of AF_ALG: each names the commit that fixed it, and fails without that commit."""
