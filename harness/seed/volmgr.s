# Volumes. Invented.
.include "frames.inc"
SEND VmReadWrite, 0x60, HOME, VmVisit
VISIT VmVisit, 0x50, VmLeaf
LEAF VmLeaf
IMPORT IofCallDriver
