# The filter manager: three functions down from its dispatch routine. Invented.
.include "frames.inc"
KEEP FltpDispatch, 0x90, HOME, FltpPassThrough, FltpVisit
KEEP FltpPassThrough, 0x140, RBX, FltpLegacy, FltpVisit
SEND FltpLegacy, 0x90, FRAME, FltpVisit
VISIT FltpVisit, 0xc0, FltpLeaf
LEAF FltpLeaf
IMPORT IofCallDriver
