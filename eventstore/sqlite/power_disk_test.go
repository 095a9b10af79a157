//go:build linux

package sqlite_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// disk is a folder of a machine whose power may fail: what of it is on the platter for
// certain, and what the system was told since and may have written or not. It takes
// the view that is worst for a program and that POSIX allows:
//
//   - What fsync has returned for is there. All else is there, or not, or partly, in any
//     order, by sectors of 512 bytes.
//   - A file that was made or removed has its name, or has it not, until the folder is synced.
//   - What was not written when fsync failed never will be, although it can be read
//     and later calls of fsync succeed.
//
// One thing is taken as kept which POSIX leaves open: SQLite does not look at whether the
// fsync of a folder failed.
type disk struct {
	rand    *rand.Rand
	lying   bool // the control: fsync returns at once and does nothing
	files   map[int]*file
	names   map[string]*file // as a process sees them
	kept    map[string]*file // as they are on the platter
	unnamed []naming
	marks   map[string]int // by sync: how much its file had been told when it began
}

// file is the content of a file, which may have lost its name.
type file struct {
	name   string
	seen   []byte // as a process sees it
	kept   []byte // as it is on the platter
	told   []change
	before int // how many changes are no longer in told
}

// change is a write, or a truncation where data is nil.
type change struct {
	offset int64
	data   []byte
}

// naming gives a name to a file, or takes it where the file is nil.
type naming struct {
	name string
	file *file
}

const sector = 512

// newDisk is a disk with a folder as it stands, all of it on the platter.
func newDisk(dir string, r *rand.Rand) (*disk, error) {
	d := &disk{rand: r, files: map[int]*file{}, names: map[string]*file{}, kept: map[string]*file{}, marks: map[string]int{}}
	content, err := contentOf(dir)
	for name, data := range content {
		f := &file{name: name, seen: slices.Clone(data), kept: data}
		d.names[name], d.kept[name] = f, f
	}
	return d, err
}

// contentOf reads the files of a folder that outlive a power cut.
func contentOf(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	content := map[string][]byte{}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), "-shm") {
			continue
		}
		if content[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			return nil, err
		}
	}
	return content, nil
}

// do takes in what a process did.
func (d *disk) do(c call) error {
	if c.kind == "open" {
		if c.fresh {
			return fmt.Errorf("O_TRUNC is not understood")
		}
		if c.name == "" {
			return nil
		}
		if d.names[c.name] == nil {
			f := &file{name: c.name}
			d.names[c.name] = f
			d.unnamed = append(d.unnamed, naming{c.name, f})
		}
		d.files[c.fd] = d.names[c.name]
		return nil
	}
	if c.kind == "unlink" {
		delete(d.names, c.name)
		d.unnamed = append(d.unnamed, naming{c.name, nil})
		return nil
	}
	if c.name == "" {
		d.syncNames(c)
		return nil
	}
	f := d.files[c.fd]
	if f == nil || f.name != c.name {
		return fmt.Errorf("%s of %q by descriptor %d, which is not known", c.kind, c.name, c.fd)
	}
	switch c.kind {
	case "write", "truncate":
		ch := change{c.offset, c.data}
		f.seen = ch.apply(f.seen)
		f.told = append(f.told, ch)
	case "syncing":
		d.marks[c.id] = f.before + len(f.told)
	case "sync", "failed sync":
		mark := d.marks[c.id] - f.before
		delete(d.marks, c.id)
		if d.lying || mark <= 0 {
			return nil // a sync beside this one was faster
		}
		covered := f.told[:mark]
		if c.kind == "failed sync" {
			covered = d.some(covered)
		}
		for _, ch := range covered {
			f.kept = ch.apply(f.kept)
		}
		f.told = f.told[mark:]
		f.before += mark
	default:
		return fmt.Errorf("%q is not understood", c.kind)
	}
	return nil
}

// syncNames syncs the folder. Nothing in it is made or removed meanwhile: SQLite
// syncs it under the lock by which it writes.
func (d *disk) syncNames(c call) {
	if c.kind == "syncing" || d.lying {
		return
	}
	for _, n := range d.unnamed {
		n.apply(d.kept)
	}
	d.unnamed = nil
}

func (n naming) apply(names map[string]*file) {
	if n.file == nil {
		delete(names, n.name)
	} else {
		names[n.name] = n.file
	}
}

func (c change) apply(b []byte) []byte {
	end := c.offset + int64(len(c.data))
	if c.data == nil && end < int64(len(b)) {
		return b[:end]
	}
	for int64(len(b)) < end {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.offset:], c.data)
	return b
}

// cut is what is found on the platter when the power comes back: the files by name.
func (d *disk) cut() map[string][]byte {
	names := maps.Clone(d.kept)
	ordered := d.rand.IntN(2) == 0 // as a file system with a journal does it
	until := d.rand.IntN(len(d.unnamed) + 1)
	for i, n := range d.unnamed {
		if ordered && i < until || !ordered && d.rand.IntN(2) == 0 {
			n.apply(names)
		}
	}
	found := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) { // the same with the same seed
		content := slices.Clone(names[name].kept)
		for _, ch := range d.some(names[name].told) {
			content = ch.apply(content)
		}
		found[name] = content
	}
	return found
}

// some is a part of changes that a disk may have written, the last of them torn.
func (d *disk) some(changes []change) []change {
	var part []change
	switch d.rand.IntN(4) {
	case 0: // as they came, up to somewhere
		part = slices.Clone(changes[:d.rand.IntN(len(changes)+1)])
	case 1: // all but a few
		part = d.pick(changes, 0.95)
	case 2: // hardly any
		part = d.pick(changes, 0.05)
	default:
		part = d.pick(changes, d.rand.Float64())
	}
	if len(part) == 0 || d.rand.IntN(2) == 0 {
		return part
	}
	last := part[len(part)-1]
	part = part[:len(part)-1]
	for at := last.offset; at < last.offset+int64(len(last.data)); {
		end := min((at/sector+1)*sector, last.offset+int64(len(last.data)))
		if d.rand.IntN(2) == 0 {
			part = append(part, change{at, last.data[at-last.offset : end-last.offset]})
		}
		at = end
	}
	return part
}

func (d *disk) pick(changes []change, share float64) (picked []change) {
	for _, ch := range changes {
		if d.rand.Float64() < share {
			picked = append(picked, ch)
		}
	}
	return picked
}
