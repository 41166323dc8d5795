#!/usr/bin/env bash
# Set up a one-node Slurm from Debian's packages for the tests marked `slurm`. Needs root; can be repeated.
set -euo pipefail

responds() { sinfo --noheader -o %T 2>/dev/null | grep -qE 'idle|mix|alloc'; }

if responds; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
  echo "note: no Slurm is running and setting one up needs root: its tests are skipped"
  exit 0
fi
if ! command -v slurmctld slurmd sinfo munged >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
fi
# Write the configuration, start the daemons that do not run, and resume a node that was drained or lost.
mkdir -p /etc/slurm /run/munge /var/log/munge /var/lib/slurm/slurmctld /var/lib/slurm/slurmd /var/log/slurm
chown munge: /run/munge /var/log/munge
host=$(hostname -s)
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=tests Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
pgrep -x munged >/dev/null || runuser -u munge -- munged
pgrep -x slurmctld >/dev/null || slurmctld
pgrep -x slurmd >/dev/null || slurmd
for _ in $(seq 40); do
  if responds; then exit 0; fi
  scontrol update nodename="$host" state=resume 2>/dev/null || true
  sleep 0.5
done
echo "error: Slurm was started but does not answer; the end of its logs:" >&2
tail -n 5 /var/log/slurm/*.log >&2 || true
exit 1
