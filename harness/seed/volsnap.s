# Shadow copies. Invented.
.include "frames.inc"
KEEP VolSnapRead, 0x50, HOME, VspSendDown, VspVisit
SEND VspSendDown, 0x60, RBX, VspVisit
VISIT VspVisit, 0x60, VspLeaf
LEAF VspLeaf
IMPORT IofCallDriver
