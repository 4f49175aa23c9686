//! The journal of a lease, and the writes that it records.

use std::path::{Path, PathBuf};

use host::journal::{self, Intent, JournalError};
use host::{Journal, Sysroot};

use super::lease::{Leases, Lock, Step};
use super::node::Node;
use super::{
    HandOverError, Lease, LeaseError, Order, Recipient, RestoreError, SysfsWriter, WriteFailure,
    turn,
};

/// A lease's journal, with the one who writes what it records.
pub(super) struct Ledger<'a> {
    journal: Journal,
    writer: &'a dyn SysfsWriter,
    lock: PathBuf,
    path: PathBuf,
}

impl<'a> Ledger<'a> {
    /// Begins the journal of a new lease. The lock on all leases must be held.
    pub(super) fn create(
        leases: &Leases<'_>,
        _lock: &Lock,
        lease: &Lease,
        writer: &'a dyn SysfsWriter,
    ) -> Result<Self, LeaseError> {
        let path = leases.path(lease.card);
        let lock = helper_lock(&path);
        turn::prepare(&lock).map_err(|source| LeaseError::Io { path: lock.clone(), source })?;
        writer.passes();
        let journal = Journal::create(&path, lease)?;
        writer.passes();
        Ok(Self { journal, writer, lock, path })
    }

    /// Goes on with the journal of a lease.
    pub(super) fn reopen(path: &Path, writer: &'a dyn SysfsWriter) -> Result<Self, LeaseError> {
        let lock = helper_lock(path);
        turn::prepare(&lock).map_err(|source| LeaseError::Io { path: lock.clone(), source })?;
        let journal = Journal::reopen(path)?;
        Ok(Self { journal, writer, lock, path: path.to_owned() })
    }

    fn intent(&mut self, step: &Step) -> Result<Intent, JournalError> {
        self.writer.passes();
        let intent = self.journal.intent(step)?;
        self.writer.passes();
        Ok(intent)
    }

    fn done(&mut self, intent: Intent) -> Result<(), JournalError> {
        self.writer.passes();
        self.journal.done(intent)?;
        self.writer.passes();
        Ok(())
    }

    /// Records something that is no write.
    pub(super) fn note(&mut self, step: &Step) -> Result<(), JournalError> {
        let intent = self.intent(step)?;
        self.done(intent)
    }

    /// Records a write and makes it.
    pub(super) fn write(
        &mut self,
        step: &Step,
        path: &str,
        value: &str,
    ) -> Result<(), RestoreError> {
        let intent = self.intent(step)?;
        if let Err(failure) = self.writer.write(&Order { path, value, lock: Some(&self.lock) }) {
            if let WriteFailure::Hung { pid, .. } = failure {
                self.note(&Step::Hung(pid))?;
            }
            return Err(failure.into());
        }
        Ok(self.done(intent)?)
    }

    /// Gives device nodes to a user.
    pub(super) fn hand_over(
        &mut self,
        host: &Sysroot,
        nodes: &[Node],
        user: &Recipient,
    ) -> Result<(), RestoreError> {
        let intent = self.intent(&Step::HandOver(nodes.to_vec()))?;
        for node in nodes {
            self.chown(host, &node.path, user.uid, user.gid)?;
        }
        Ok(self.done(intent)?)
    }

    /// Gives device nodes back to their former owners. Those that are gone need nothing.
    pub(super) fn take_back(&self, host: &Sysroot, nodes: &[Node]) -> Result<(), RestoreError> {
        for node in nodes.iter().filter(|node| host.exists(&node.path)) {
            self.chown(host, &node.path, node.uid, node.gid)?;
        }
        Ok(())
    }

    fn chown(&self, host: &Sysroot, node: &str, uid: u32, gid: u32) -> Result<(), HandOverError> {
        let path = host.locate(node);
        let failed = |source| HandOverError::Chown { path: path.clone(), uid, source };
        self.writer.chown(&path, uid, gid).map_err(failed)
    }

    /// Ends the lease.
    pub(super) fn remove(self) -> Result<(), JournalError> {
        // The journal goes last: while it is there, somebody may need the lock.
        self.writer.passes();
        journal::remove(&self.lock)?;
        self.writer.passes();
        journal::remove(&self.path)?;
        self.writer.passes();
        Ok(())
    }
}

/// Where the lock of the helpers of a lease is, beside its journal.
pub(super) fn helper_lock(journal: &Path) -> PathBuf {
    journal.with_extension("helper")
}
