#!/bin/sh
# The first process of a machine (machine.ts), in new namespaces of its own: makes it look like one, then waits.
# usage: machine-init.sh NAME FOLDER [PATH…]   each PATH becomes the machine's own, kept in FOLDER/root
set -eu
name=$1 folder=$2
shift 2
mount -t proc proc /proc
hostname "$name"
ip link set lo up
for path; do
  mkdir -p "$folder/root$path"
  mount --bind "$folder/root$path" "$path"
done
# What is mounted there, others' namespaces among it, would live on in this namespace.
awk '$5 ~ "^/run/" { print $5 }' /proc/self/mountinfo | sort -r | while read -r path; do umount --lazy "$path"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock
# Containers' volumes have to reach the kubelet and the other way round; none of it reaches the host, since the
# namespace's mounts were made private before.
mount --make-rshared /
# Before a device exists: no duplicate address detection, so addresses can be used at once.
for family in all default; do echo 0 >/proc/sys/net/ipv6/conf/$family/accept_dad; done
touch /run/ready
exec tini -- sleep infinity
