package pgtest

import "syscall"

// attributes has a program run as the server's user, and get a signal when this process
// ends, if it is not 0.
func attributes(end syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: servant(), Pdeathsig: end}
}
