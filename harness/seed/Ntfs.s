# The file system: reads that are cached, reads that are not, and the way to find out where on the disk they are.
# Invented.
.include "frames.inc"
NEXT NtfsFsdRead, 0x200, RBX, NtfsVisit
NEXT NtfsCommonRead, 0x2c0, FRAME, NtfsVisit
NEXT NtfsNonCachedIo, 0x510, HOME, NtfsVisit
KEEP NtfsLookupAllocation, 0x290, FRAME, NtfsLookupInFileRecord, NtfsVisit
KEEP NtfsLookupInFileRecord, 0x130, HOME, NtfsMapStream, NtfsVisit
SEND NtfsMultipleAsync, 0x150, RBX, NtfsVisit

FUNCTION NtfsCachedRead
        PROLOGUE_HOME 0x60
        call qword ptr [rip + __imp_CcCopyRead]
        nop
END NtfsCachedRead

FUNCTION NtfsMapStream
        PROLOGUE_RBX 0x80
        call qword ptr [rip + __imp_CcMapData]
        nop
END NtfsMapStream

VISIT NtfsVisit, 0x110, NtfsSmallVisit
VISIT NtfsSmallVisit, 0x70, NtfsLeaf
LEAF NtfsLeaf
IMPORT IofCallDriver
IMPORT CcCopyRead
IMPORT CcMapData
