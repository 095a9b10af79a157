package cmdb

import (
	"github.com/rollforward/rollforward/eventstore/command"
)

// StandardClasses returns the classes that an engine ships with, parents first.
// They are a start: define your own below them, or add attributes to them.
func StandardClasses() []Class {
	text := func(name, title string) AttributeSchema {
		return AttributeSchema{Name: name, Type: TypeString, Title: title}
	}
	typed := func(name string, typ AttributeType, title string) AttributeSchema {
		return AttributeSchema{Name: name, Type: typ, Title: title}
	}
	words := func(name, title string, enum ...string) AttributeSchema {
		return AttributeSchema{Name: name, Type: TypeEnum, Title: title, Enum: enum}
	}
	version := text("version", "Version")
	location := text("location", "Location")
	return []Class{
		{Name: RootClass, Title: "Item", Abstract: true, Attributes: []AttributeSchema{
			text("description", "Description"), typed("url", TypeURL, "Where to read about it"),
		}},

		{Name: "service", Parent: RootClass, Title: "Service", Attributes: []AttributeSchema{
			words("audience", "Whom it serves", "internal", "external"), version,
		}},
		{Name: "process", Parent: RootClass, Title: "Process", Attributes: []AttributeSchema{version}},
		{Name: "document", Parent: RootClass, Title: "Document", Attributes: []AttributeSchema{
			version, typed("valid_until", TypeDate, "Valid until"),
		}},
		{Name: "group", Parent: RootClass, Title: "Group of items"},
		{Name: "site", Parent: RootClass, Title: "Site", Attributes: []AttributeSchema{text("address", "Address")}},
		{Name: "rack", Parent: RootClass, Title: "Rack", Attributes: []AttributeSchema{location, typed("units", TypeInt, "Units")}},

		{Name: "software", Parent: RootClass, Title: "Software", Abstract: true, Attributes: []AttributeSchema{version, text("vendor", "Vendor")}},
		{Name: "application", Parent: "software", Title: "Application"},
		{Name: "database", Parent: "software", Title: "Database", Attributes: []AttributeSchema{
			text("engine", "Engine"), typed("port", TypeInt, "Port"),
		}},
		{Name: "middleware", Parent: "software", Title: "Middleware", Attributes: []AttributeSchema{text("engine", "Engine"), typed("port", TypeInt, "Port")}},
		{Name: "container", Parent: "software", Title: "Container", Attributes: []AttributeSchema{text("image", "Image"), text("digest", "Digest of the image")}},
		{Name: "component", Parent: "software", Title: "Software component", Attributes: []AttributeSchema{
			text("purl", "Package URL"), text("license", "Licence"),
		}},
		{Name: "go-module", Parent: "component", Title: "Go module", Attributes: []AttributeSchema{
			text("path", "Module path"), text("go_version", "Go version it asks for"), text("replaced", "By what it is replaced"),
			typed("main", TypeBool, "Main module"), typed("indirect", TypeBool, "Indirect"), text("deprecated", "Why it is deprecated"),
		}},

		{Name: "cluster", Parent: RootClass, Title: "Cluster", Attributes: []AttributeSchema{version, text("technology", "Technology")}},
		{Name: "server", Parent: RootClass, Title: "Server", Attributes: []AttributeSchema{
			text("os", "Operating system"), version, text("address", "Network address"), typed("cpus", TypeInt, "CPUs"), typed("memory_gib", TypeDecimal, "Memory in GiB"),
		}},
		{Name: "physical-server", Parent: "server", Title: "Physical server", Attributes: []AttributeSchema{
			text("serial", "Serial number"), text("model", "Model"), location,
		}},
		{Name: "virtual-machine", Parent: "server", Title: "Virtual machine"},
		{Name: "network-device", Parent: RootClass, Title: "Network device", Attributes: []AttributeSchema{
			text("serial", "Serial number"), text("model", "Model"), version, text("address", "Network address"), location,
		}},
		{Name: "network", Parent: RootClass, Title: "Network", Attributes: []AttributeSchema{text("cidr", "Address range")}},
		{Name: "storage", Parent: RootClass, Title: "Storage", Attributes: []AttributeSchema{
			text("serial", "Serial number"), text("model", "Model"), version, typed("capacity_gib", TypeDecimal, "Capacity in GiB"), location,
		}},
	}
}

// StandardRelations returns the relation types that an engine ships with.
func StandardRelations() []RelationType {
	return []RelationType{
		{Name: "depends on", Inverse: "used by", Impact: Backward},
		{Name: "runs on", Inverse: "hosts", Impact: Backward},
		{Name: "contains", Inverse: "contained by", Impact: Forward},
		{Name: "connects to", Inverse: "connects to", Impact: Both},
		{Name: "member of", Inverse: "has member", Impact: Forward, Pooled: true},
		{Name: "documents", Inverse: "documented by", Impact: None},
	}
}

// Ship records the standard classes and relation types if no class and no
// relation type was ever defined, and otherwise does nothing, so that what an
// organisation made of them stays. Whether the caller may is for him to ask.
func Ship(tx *command.Tx) error {
	version, err := tx.Check(classStream)
	if err != nil || version > 0 {
		return err
	}
	var payloads []any
	for _, c := range StandardClasses() {
		payloads = append(payloads, ClassDefined{c})
	}
	for _, r := range StandardRelations() {
		payloads = append(payloads, RelationDefined{r})
	}
	return tx.Record(classStream, payloads...)
}
