//! Addresses as types, so that a physical address is never read as a virtual one.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `offset` bytes further on, wrapping at the end of the address space as the processor does.
            #[must_use]
            pub const fn plus(self, offset: u64) -> Self {
                Self(self.0.wrapping_add(offset))
            }

            /// The address `offset` bytes before this one, wrapping as the processor does.
            #[must_use]
            pub const fn minus(self, offset: u64) -> Self {
                Self(self.0.wrapping_sub(offset))
            }

            /// How far this address lies above `base`; `None` if it lies below.
            #[must_use]
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// The start of the 4 KiB page that holds this address.
            #[must_use]
            pub const fn page(self) -> Self {
                Self(self.0 & !0xfff)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        /// `{}` is WinDbg's form without the back quote: 16 digits; `{:#}` is `0x` and no padding.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if f.alternate() { write!(f, "{:#x}", self.0) } else { write!(f, "{:016x}", self.0) }
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

address! {
    /// A virtual address of the crashed machine.
    VirtAddr
}
address! {
    /// A physical address of the crashed machine.
    PhysAddr
}

impl VirtAddr {
    /// True if bits 63 to 47 are all equal, as x64 with four page-table levels demands.
    #[must_use]
    pub const fn is_canonical(self) -> bool {
        let high = self.0 >> 47;
        high == 0 || high == 0x1_ffff
    }

    /// True in the upper half, where 64-bit Windows keeps the kernel.
    #[must_use]
    pub const fn is_kernel(self) -> bool {
        self.0 >> 47 == 0x1_ffff
    }

    /// WinDbg's own form: eight digits, a back quote, eight digits.
    #[must_use]
    pub fn windbg(self) -> String {
        format!("{:08x}`{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let a = VirtAddr(0xfffff880_03dccfd0);
        assert_eq!(a.to_string(), "fffff88003dccfd0");
        assert_eq!(format!("{a:#}"), "0xfffff88003dccfd0");
        assert_eq!(a.windbg(), "fffff880`03dccfd0");
        assert_eq!(a.page(), VirtAddr(0xfffff880_03dcc000));
        assert!(a.is_kernel() && a.is_canonical());
        assert!(!VirtAddr(0x8000_0000_0000_0000).is_canonical());
    }
}
