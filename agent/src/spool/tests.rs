use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    CommandResult, Network, ScanCompleted, ScanOutcome, ScanStarted, Segments,
};
use redb::StorageBackend;

use super::*;

/// A disk in memory that can be unplugged, filled up and copied.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// What a loss of power would leave for certain.
    synced: Vec<u8>,
    /// Writes since then.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Operations until it is unplugged; the one that is cut off is done by half.
    operations_left: Option<usize>,
    dead: bool,
    full: bool,
}

impl Platter {
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("unplugged")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
        if bytes.len() < offset + data.len() {
            bytes.resize(offset + data.len(), 0);
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let platter = self.platter();
        let found =
            platter.bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        let len = usize::try_from(len).unwrap();
        if platter.full && len > platter.bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.bytes.resize(len, 0);
        platter.synced.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.operate()?;
        platter.synced = platter.bytes.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut platter = self.platter();
        let operated = platter.operate();
        let data = if operated.is_ok() { data } else { &data[..data.len() / 2] };
        // The write that is cut off is the last one: whoever is dead writes no more.
        if operated.is_ok() || !std::mem::replace(&mut platter.dead, true) {
            Platter::put(&mut platter.bytes, offset, data);
            platter.unsynced.push((offset, data.to_vec()));
        }
        operated
    }
}

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// A disk that will be unplugged after `operations`.
    fn unplugged_after(operations: usize) -> Self {
        let disk = Self::default();
        disk.platter().operations_left = Some(operations);
        disk
    }

    /// What is on the disk after `kill -9`: all that was written.
    fn after_kill(&self) -> Self {
        Self::of(self.platter().bytes.clone())
    }

    /// What may be on the disk after a loss of power: what was synced, and any part of what came later.
    fn after_power_loss(&self, mut is_kept: impl FnMut() -> bool) -> Self {
        let platter = self.platter();
        let mut bytes = platter.synced.clone();
        for (offset, data) in &platter.unsynced {
            if is_kept() {
                Platter::put(&mut bytes, *offset, data);
            }
        }
        Self::of(bytes)
    }

    fn of(bytes: Vec<u8>) -> Self {
        let synced = bytes.clone();
        Self(Arc::new(Mutex::new(Platter { bytes, synced, ..Platter::default() })))
    }

    fn open(&self, bytes_max: u64) -> Result<Spool, SpoolError> {
        let disk = self.clone();
        Spool::open_on(Box::new(move || Ok(Box::new(disk.clone()))), bytes_max)
    }
}

const MIB: u64 = 1024 * 1024;

fn frame(name: &str) -> AgentFrame {
    let network = Network {
        cidr: "10.0.0.0/24".to_owned(),
        name: name.to_owned(),
        interface: "eth0".to_owned(),
    };
    AgentFrame::Segments(Segments { seq: 0, networks: vec![network] })
}

/// Number and name of every stored frame.
fn stored(spool: &Spool) -> Vec<(u64, String)> {
    let frames = spool.read(spool.position().acked, usize::MAX, usize::MAX).unwrap();
    frames.into_iter().map(|(seq, text)| (seq, name_in(seq, &text))).collect()
}

fn name_in(seq: u64, text: &str) -> String {
    let AgentFrame::Segments(segments) = AgentFrame::parse(text).unwrap() else {
        panic!("another frame")
    };
    assert_eq!(segments.seq, seq, "the number in the frame is its number in the spool");
    segments.networks[0].name.clone()
}

/// What the spool must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    acked: u64,
    names: Vec<String>,
}

impl Model {
    fn commit(&mut self, acked: u64, names: &[String]) {
        self.acked = acked.clamp(self.acked, self.names.len() as u64);
        self.names.extend_from_slice(names);
    }

    fn of(spool: &Spool) -> (u64, u64, Vec<(u64, String)>) {
        (spool.position().acked, spool.position().last, stored(spool))
    }

    fn expected(&self) -> (u64, u64, Vec<(u64, String)>) {
        let all = (1..).zip(self.names.iter().cloned());
        (self.acked, self.names.len() as u64, all.filter(|(seq, _)| *seq > self.acked).collect())
    }
}

/// A script of commits, about as an agent makes them.
fn script(steps: u64) -> Vec<(u64, Vec<String>)> {
    let mut last = 0;
    let step = |step: u64| {
        let names: Vec<_> = (0..step % 4)
            .map(|n| format!("{step}.{n} {}", "x".repeat(step as usize * 37)))
            .collect();
        let acked = last * 2 / 3;
        last += names.len() as u64;
        (acked, names)
    };
    (0..steps).map(step).collect()
}

fn frames(names: &[String]) -> Vec<AgentFrame> {
    names.iter().map(|name| frame(name)).collect()
}

/// Plays the script until the disk fails: what surely holds, and what holds too if the last commit got through.
fn play(disk: &Disk, script: &[(u64, Vec<String>)]) -> Played {
    let (mut sure, mut maybe) = (Model::default(), Model::default());
    let Ok(mut spool) = disk.open(MIB) else {
        return Played { sure, maybe, opened: false, finished: false };
    };
    for (acked, names) in script {
        maybe.commit(*acked, names);
        if spool.commit(*acked, &frames(names)).is_err() {
            return Played { sure, maybe, opened: true, finished: false };
        }
        sure = maybe.clone();
    }
    Played { sure, maybe, opened: true, finished: true }
}

/// How far a script came.
struct Played {
    sure: Model,
    maybe: Model,
    opened: bool,
    finished: bool,
}

impl Played {
    /// Opens what the crash left and compares. A spool that was not even made yet may be damaged: it held nothing.
    fn assert_survived(&self, disk: &Disk, crash: impl fmt::Debug) {
        match disk.open(MIB) {
            Ok(spool) => {
                let found = Model::of(&spool);
                assert!(
                    found == self.sure.expected() || found == self.maybe.expected(),
                    "{crash:?}: {found:?}"
                );
            }
            Err(error) => assert!(
                !self.opened && matches!(error, SpoolError::Damaged(_)),
                "{crash:?}: {error:?}"
            ),
        }
    }
}

#[test]
fn killed_at_any_write_it_holds_the_last_commit() {
    let script = script(12);
    for operations in 0.. {
        let disk = Disk::unplugged_after(operations);
        let played = play(&disk, &script);
        played.assert_survived(&disk.after_kill(), operations);
        if played.finished {
            assert!(operations > 30, "the script must write enough for this to say something");
            return;
        }
    }
}

#[test]
fn without_power_at_any_write_it_holds_the_last_commit() {
    let script = script(8);
    for operations in 0.. {
        let disk = Disk::unplugged_after(operations);
        let played = play(&disk, &script);
        for pattern in [0_u32, 0x5555_5555, 0x9249_2492, 0xffff_0000] {
            let mut bits = pattern;
            let after = disk.after_power_loss(|| {
                bits = bits.rotate_left(1);
                bits & 1 == 1
            });
            played.assert_survived(&after, (operations, pattern));
        }
        if played.finished {
            return;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit { acked: u64, names: Vec<String> },
    Reopen,
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..40, prop::collection::vec("[a-z]{0,60}", 0..5)).prop_map(|(acked, names)| Step::Commit { acked, names }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_does_as_its_model_whatever_is_asked(steps in prop::collection::vec(any_step(), 1..25)) {
        let disk = Disk::default();
        let mut spool = disk.open(MIB).unwrap();
        let mut model = Model::default();
        for step in steps {
            let spool_id = spool.position().spool_id.clone();
            match step {
                Step::Commit { acked, names } => {
                    model.commit(acked, &names);
                    spool.commit(acked, &frames(&names)).unwrap();
                }
                Step::Reopen => {
                    drop(spool);
                    spool = disk.open(MIB).unwrap();
                    prop_assert_eq!(&spool.position().spool_id, &spool_id);
                }
                Step::Restart => {
                    spool.restart_sequence().unwrap();
                    model = Model { acked: 0, names: model.names.split_off(usize::try_from(model.acked).unwrap()) };
                    prop_assert_ne!(&spool.position().spool_id, &spool_id);
                }
            }
            prop_assert_eq!(Model::of(&spool), model.expected());
        }
    }
}

#[test]
fn at_its_bound_it_refuses_the_new_keeps_the_old_and_takes_again_when_acked() {
    for (size, bound) in
        [(10, 2 * MIB), (300, 3 * MIB), (2000, 4 * MIB), (5000, 5 * MIB), (40_000, 4 * MIB)]
    {
        let disk = Disk::default();
        let mut spool = disk.open(bound).unwrap();
        let batch = vec![frame(&"y".repeat(size)); 30_000 / size + 1];
        for round in 0..3 {
            let before = spool.position().last;
            let refused = loop {
                if let Err(error) = spool.commit(0, &batch) {
                    break error;
                }
                assert!(disk.len().unwrap() <= bound);
            };
            assert!(
                matches!(refused, SpoolError::Full { .. }) && !spool.is_closed(),
                "{size}: {refused:?}"
            );
            let last = spool.position().last;
            assert!(last > before);
            let kept_bytes = (last - before) * size as u64;
            assert!(
                kept_bytes > bound / 6 || size == 10,
                "{size}, round {round}: only {kept_bytes} bytes fit"
            );
            assert_eq!(stored(&spool).len() as u64, last - before);
            spool.restart_sequence().unwrap();
            let last = spool.position().last;
            spool.commit(last, &[]).unwrap();
            assert!(disk.len().unwrap() <= bound && stored(&spool).is_empty());
        }
    }
}

#[test]
fn a_full_spool_still_notes_acks_that_come_with_frames_that_do_not_fit() {
    let disk = Disk::default();
    let mut spool = disk.open(4 * MIB).unwrap();
    let batch = vec![frame(&"z".repeat(2000)); 50];
    while spool.commit(0, &batch).is_ok() {}
    let last = spool.position().last;
    let more = vec![frame(&"z".repeat(2000)); 2000];
    assert!(matches!(spool.commit(last, &more), Err(SpoolError::Full { .. })));
    assert_eq!((spool.position().acked, stored(&spool).len()), (last, 0));
}

#[test]
fn where_the_file_itself_meets_the_bound_nothing_is_lost_either() {
    let disk = Disk::default();
    let mut spool = disk.open(MIB).unwrap();
    let (big, mut taken) = (frame(&"z".repeat(100_000)), 0);
    let error = loop {
        match spool.commit(0, std::slice::from_ref(&big)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SpoolError::Full { .. }), "{error:?}");
    assert!(disk.len().unwrap() <= MIB && taken > 0);
    spool.reopen().unwrap();
    assert_eq!(stored(&spool).len(), taken);
    spool.commit(spool.position().last, &[]).unwrap();
    spool.commit(0, &[big]).unwrap();
}

#[test]
fn a_full_disk_is_a_clear_error_and_what_was_stored_stays() {
    let disk = Disk::default();
    let mut spool = disk.open(64 * MIB).unwrap();
    disk.platter().full = true;
    let mut taken = 0;
    let error = loop {
        match spool.commit(0, &[frame(&"w".repeat(2000))]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, SpoolError::Disk(_)) && error.to_string().contains("disk"),
        "{error:?}"
    );
    assert!(spool.is_closed() && spool.commit(0, &[frame("no")]).is_err());
    spool.reopen().unwrap();
    assert_eq!(stored(&spool).len(), taken);
    disk.platter().full = false;
    spool.commit(0, &[frame("room again")]).unwrap();
    assert_eq!(stored(&spool).last().unwrap().1, "room again");
}

#[test]
fn a_damaged_file_is_set_aside_or_read_right_but_never_believed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    let mut spool = Spool::open(directory.path(), MIB).unwrap();
    spool.commit(0, &frames(&["one".to_owned(), "two".to_owned(), "three".to_owned()])).unwrap();
    let (position, before) = (spool.position().clone(), stored(&spool));
    drop(spool);
    let sound = std::fs::read(&file).unwrap();
    let mut replaced = 0;
    let mut damages: Vec<Vec<u8>> = [0, 100, 4096, sound.len() / 2, sound.len() - 1]
        .into_iter()
        .map(|len| sound[..len].to_vec())
        .collect();
    damages.push(b"this is no spool at all".repeat(1000));
    for at in (0..sound.len()).step_by(sound.len() / 150) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x40;
        damages.push(flipped);
    }
    for damaged in damages {
        std::fs::write(&file, &damaged).unwrap();
        let spool = Spool::open_or_replace(directory.path(), MIB).unwrap();
        if spool.position().spool_id == position.spool_id {
            assert_eq!((spool.position(), stored(&spool)), (&position, before.clone()));
        } else {
            assert_eq!((spool.position().last, stored(&spool).len()), (0, 0));
            replaced += 1;
        }
    }
    assert!(replaced >= 5 && directory.path().join(ASIDE_NAME).exists(), "{replaced}");
}

fn command_result(command_id: CommandId, state: CommandProgress) -> AgentFrame {
    let at = Timestamp::from_unix_ms(0);
    AgentFrame::CommandResult(CommandResult {
        seq: 0,
        command_id,
        state,
        result: None,
        error: None,
        at,
    })
}

#[test]
fn it_remembers_the_last_500_commands_and_which_are_finished() {
    let disk = Disk::default();
    let mut spool = disk.open(MIB).unwrap();
    let (running, finished) = (CommandId::new(), CommandId::new());
    let old: Vec<_> =
        (0..505).map(|_| command_result(CommandId::new(), CommandProgress::Succeeded)).collect();
    spool.commit(0, &old).unwrap();
    let results = [
        command_result(running, CommandProgress::Running),
        command_result(finished, CommandProgress::Running),
        command_result(finished, CommandProgress::Failed),
    ];
    spool.commit(0, &results).unwrap();
    spool.reopen().unwrap();
    let commands = spool.commands().unwrap();
    assert_eq!(commands.len(), 500);
    assert!(commands.contains(&(running, false)) && commands.contains(&(finished, true)));
}

#[test]
fn it_remembers_the_scans_that_are_open() {
    let at = Timestamp::from_unix_ms(0);
    let mut spool = Disk::default().open(MIB).unwrap();
    let (segment_id, open, ended) = (SegmentId::new(), ScanId::new(), ScanId::new());
    for scan_id in [open, ended] {
        let started = ScanStarted { seq: 0, scan_id, segment_id, started_at: at, command_id: None };
        spool.commit(0, &[AgentFrame::ScanStarted(started)]).unwrap();
    }
    let outcome = ScanOutcome::Completed;
    let (scan_id, devices) = (ended, Vec::new());
    let end = ScanCompleted {
        seq: 0,
        scan_id,
        segment_id,
        finished_at: at,
        outcome,
        error: None,
        devices,
    };
    spool.commit(0, &[AgentFrame::ScanCompleted(end)]).unwrap();
    assert_eq!(spool.open_scans().unwrap(), [(open, segment_id)]);
}

#[test]
fn a_second_agent_is_kept_out_of_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let lock = lock_directory(directory.path()).unwrap();
    assert!(matches!(lock_directory(directory.path()), Err(SpoolError::InUse)));
    drop(lock);
    assert!(lock_directory(directory.path()).is_ok());
}
