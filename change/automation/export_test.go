package automation

// ReadReport is what FromCDEvents makes of a message before it records it.
func ReadReport(payload []byte) (r Reported, about bool, err error) {
	return CDEvents{Complete: complete}.report(payload)
}
