# Partitions. Invented.
.include "frames.inc"
SEND PmReadWrite, 0x50, RBX, PmVisit
VISIT PmVisit, 0x50, PmLeaf
LEAF PmLeaf
IMPORT IofCallDriver
