//! A second reader of 64-bit small dumps: straight offsets from the format's description, no line of ours.

/// A whole, undamaged dump.
pub(crate) struct Plain<'a>(pub(crate) &'a [u8]);

impl Plain<'_> {
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    /// True unless the file is empty or was never written.
    pub(crate) fn is_written(&self) -> bool {
        self.0.starts_with(b"PAGEDU64")
    }

    pub(crate) fn build(&self) -> u32 {
        self.u32(0x0c)
    }

    pub(crate) fn architecture(&self) -> &'static str {
        match self.u32(0x30) {
            0x8664 => "x64",
            0xaa64 => "arm64",
            other => panic!("machine {other:#x}"),
        }
    }

    pub(crate) fn processors(&self) -> u32 {
        self.u32(0x34)
    }

    /// True for a small dump: DumpType 4. All else that is read here is of such.
    pub(crate) fn is_small(&self) -> bool {
        self.u32(0xf98) == 4
    }

    pub(crate) fn stop_code(&self) -> u32 {
        self.u32(0x38)
    }

    /// A minidump marks some codes with bit 28. In 0xA…, 0xC…, 0xE… that bit has no such meaning.
    pub(crate) fn base_code(&self) -> u32 {
        let code = self.stop_code();
        if code >> 28 == 1 { code & 0x0fff_ffff } else { code }
    }

    pub(crate) fn arguments(&self) -> [u64; 4] {
        [0x40, 0x48, 0x50, 0x58].map(|at| self.u64(at))
    }

    /// Steps of 100 ns since 1601.
    pub(crate) fn system_time(&self) -> u64 {
        self.u64(0xfa8)
    }

    pub(crate) fn uptime_seconds(&self) -> f64 {
        self.u64(0x1030) as f64 / 1e7
    }

    pub(crate) fn module_count(&self) -> usize {
        self.u32(0x2034) as usize
    }

    /// Base and size of every loaded module.
    pub(crate) fn modules(&self) -> Vec<(u64, u64)> {
        let table = self.u32(0x2030) as usize;
        (0..self.module_count())
            .map(|n| table + n * 0x90)
            .map(|entry| (self.u64(entry + 0x38), u64::from(self.u32(entry + 0x48))))
            .collect()
    }

    pub(crate) fn unloaded_count(&self) -> usize {
        self.u64(self.u32(0x2018) as usize) as usize
    }

    /// The debugger data block: where in the file, and its size.
    pub(crate) fn debugger_data(&self) -> (usize, usize) {
        (self.u32(0x2070) as usize, self.u32(0x2074) as usize)
    }

    /// Where the dump proper ends and secondary data may follow.
    pub(crate) fn size_of_dump(&self) -> usize {
        self.u32(0x2004) as usize
    }

    /// Where parts of the file start and end: headers, sections, and secondary data; ascending.
    pub(crate) fn section_edges(&self) -> Vec<usize> {
        let mut edges = vec![0x8, 0x348, 0xf00, 0xf98, 0x1030, 0x2000, 0x2080, self.0.len()];
        for start in [0x2008, 0x2014, 0x2018, 0x201c, 0x2020, 0x2024, 0x2028, 0x2030, 0x2038, 0x2070, 0x2078]
        {
            edges.push(self.u32(start) as usize);
        }
        for (start, size) in [(0x2028, 0x202c), (0x2038, 0x203c), (0x2070, 0x2074)] {
            edges.push((self.u32(start) + self.u32(size)) as usize);
        }
        edges.push(self.u32(0x2030) as usize + self.module_count() * 0x90);
        edges.push(self.u32(0x2018) as usize + 8 + self.unloaded_count() * 0x38);
        edges.push(self.u32(0x2078) as usize + self.u32(0x207c) as usize * 16);
        let mut at = self.size_of_dump();
        edges.push(at);
        at += 0x10;
        while at + 32 <= self.0.len() && self.u32(at) == 32 {
            edges.extend([at, at + 32]);
            at += 32 + (self.u32(at + 0x14) + self.u32(at + 0x18) + self.u32(at + 0x1c)) as usize;
        }
        self.tidy(edges)
    }

    /// Where saved runs of memory start and end; ascending.
    pub(crate) fn block_edges(&self) -> Vec<usize> {
        let table = self.u32(0x2078) as usize;
        let edges = (0..self.u32(0x207c) as usize).map(|n| table + n * 16).flat_map(|entry| {
            let start = self.u32(entry + 8) as usize;
            [start, start + self.u32(entry + 12) as usize]
        });
        self.tidy(edges.collect())
    }

    fn tidy(&self, mut edges: Vec<usize>) -> Vec<usize> {
        edges.retain(|edge| (1..=self.0.len()).contains(edge));
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

/// Steps of 100 ns since 1601 out of `2021-02-21T01:38:22.9877657Z`.
pub(crate) fn ticks(time: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| time[range].parse::<u64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let leap = |y: u64| y.is_multiple_of(4) && !y.is_multiple_of(100) || y.is_multiple_of(400);
    let mut days: u64 = (1601..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
    let seconds = ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19);
    let fraction = time[19..].trim_end_matches('Z').trim_start_matches('.');
    seconds * 10_000_000 + format!("{fraction:0<7}").parse::<u64>().unwrap()
}
