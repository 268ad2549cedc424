"""Detectors that draw masks of the whole image: prototypes (YOLACT) and dynamic kernels (SOLOv2)."""
