"""One module for each measure: it takes the samples and summarises them."""
