"""The dataset doctor: finds what ruins trainings before it costs one, and writes a repaired copy.

``diagnose(Source("instances_train.json"))`` reads a COCO, LVIS or VOC dataset into a :class:`Table`, whatever is wrong
with it, and runs checks over its columns; each yields :class:`Finding` objects. ``write_repaired`` applies the repairs
that findings offer to a copy. No module here needs torch.
"""

from rankdet.doctor.census import Census, ClassCount
from rankdet.doctor.diagnosis import Diagnosis, Examination, diagnose
from rankdet.doctor.finding import Finding, Severity
from rankdet.doctor.placement import Copies, Links, Placement
from rankdet.doctor.read import Source, read_table
from rankdet.doctor.repair import Part, write_repaired
from rankdet.doctor.scan import Headers, Pixels, Scan
from rankdet.doctor.table import Table

__all__ = [
    "Census",
    "ClassCount",
    "Copies",
    "Diagnosis",
    "Examination",
    "Finding",
    "Headers",
    "Links",
    "Part",
    "Pixels",
    "Placement",
    "Scan",
    "Severity",
    "Source",
    "Table",
    "diagnose",
    "read_table",
    "write_repaired",
]
