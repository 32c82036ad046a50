# What is common to disks. Invented.
.include "frames.inc"
KEEP ClassReadWrite, 0xc0, RBX, ServiceTransferRequest, ClassVisit
KEEP ServiceTransferRequest, 0x80, FRAME, SubmitTransferPacket, ClassVisit
SEND SubmitTransferPacket, 0x60, HOME, ClassVisit
VISIT ClassVisit, 0x60, ClassLeaf
LEAF ClassLeaf
IMPORT IofCallDriver
