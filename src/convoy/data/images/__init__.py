"""Single images: decoding, conversion of pixels, crop and resize."""
