//go:build unix && !linux

package pgtest

import "syscall"

func attributes(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: servant()}
}
