package automation

// ReadReport is what FromCDEvents makes of a message before it records it.
func ReadReport(payload []byte) (r Reported, about bool, err error) {
	return CDEvents{Complete: complete}.report(payload)
}

// AsNow has drift judged by how changes stand when it is looked for.
func AsNow(c *DriftConfig) { c.asNow = true }
