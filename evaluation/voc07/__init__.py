"""PASCAL VOC 2007 image classification."""
