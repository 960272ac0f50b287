"""PASCAL VOC 2007 image classification: the task `voc07`."""
