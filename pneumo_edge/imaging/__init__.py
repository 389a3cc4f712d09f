"""From the bytes of an image file to a model's pixels, DICOM included, and the heatmap drawn over them."""
