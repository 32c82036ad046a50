//! What names in an expression stand for in a session.

use crate::expression::{ExpressionError, Names, evaluate};
use crate::session::Session;
use crate::{pseudo, registers, symbols};
use stopcode_base::VirtAddr;

impl Session {
    /// The value of an expression.
    pub fn evaluate(&self, text: &str) -> Result<u64, ExpressionError> {
        evaluate(text, self)
    }
}

impl Names for Session {
    fn radix(&self) -> u32 {
        self.radix()
    }

    fn register(&self, name: &str) -> Option<Result<u64, String>> {
        let name = name.to_ascii_lowercase();
        let Some(pseudo) = name.strip_prefix('$') else {
            let own = self.scope().ok().and_then(|scope| registers::of_processor(scope, &name));
            return own.or_else(|| registers::special(&self.machine(), self.processor_number(), &name));
        };
        pseudo::register(self, pseudo)
    }

    fn symbol(&self, name: &str) -> Option<Result<u64, String>> {
        symbols::resolve(&self.machine(), name).map(|found| found.map(|address| address.0))
    }

    fn read(&self, at: u64, size: usize) -> Result<u64, String> {
        self.value_at(VirtAddr(at), size)
    }

    fn pointer_size(&self) -> usize {
        self.machine().arch().pointer_size() as usize
    }
}
