"""The layouts of images that are read, a module each."""
