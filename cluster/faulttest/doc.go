// Package faulttest puts three nodes of a cluster through faults of their network, their processes, their clocks and
// their disks, and checks by a history of everything that was asked and delivered that package cluster keeps its promises.
//
// Each node is a process. Everything between two of them goes through proxies of the test, which can lose and delay it. The
// tests need no privileges.
package faulttest
