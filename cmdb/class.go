package cmdb

import (
	"slices"

	"github.com/rollforward/rollforward/eventstore"
)

// RootClass is the class above all others. It is always there, with the
// attributes that every class has; a definition of it may add to them.
const RootClass = "item"

// Class is a kind of CI. It has its own attributes and those of the classes
// above it.
type Class struct {
	Name       string            `json:"name"`
	Parent     string            `json:"parent,omitzero"` // of every class but RootClass
	Title      string            `json:"title,omitzero"`
	Abstract   bool              `json:"abstract,omitzero"` // no CI is of this very class
	Attributes []AttributeSchema `json:"attributes,omitzero"`
}

// AttributeSchema says what an attribute may hold. A class may state again what
// it inherits, to require it or to narrow its words, never with another type.
type AttributeSchema struct {
	Name     string        `json:"name"`
	Type     AttributeType `json:"type"`
	Title    string        `json:"title,omitzero"`
	Required bool          `json:"required,omitzero"` // a CI that is added has it, and it is not taken away
	Unique   bool          `json:"unique,omitzero"`   // no two living CIs of the class, or below it, share a value
	Enum     []string      `json:"enum,omitzero"`     // the words of TypeEnum
}

// AttributeType is the type of an attribute's values. Values are text in one
// canonical form, so that two that mean the same are the same text.
type AttributeType string

// The types of attributes, each with its canonical form.
const (
	TypeString  AttributeType = "string"  // any text without control characters but tab and line feed
	TypeInt     AttributeType = "int"     // "-5432": 64 bits, no leading zeros
	TypeDecimal AttributeType = "decimal" // "2.5": exact, no exponent, no trailing zeros
	TypeBool    AttributeType = "bool"    // "true" or "false"
	TypeTime    AttributeType = "time"    // "2026-03-02T09:00:00Z": RFC 3339 in UTC
	TypeDate    AttributeType = "date"    // "2026-03-02"
	TypeEnum    AttributeType = "enum"    // one of the words of the schema
	TypeSet     AttributeType = "set"     // "blue,red": words, sorted, each once
	TypeURL     AttributeType = "url"     // absolute
	TypeMinUp   AttributeType = "min_up"  // "2" or "50%": how many members of a pool must be up
)

// Flow says which way impact runs along a relation that is read "A depends on B".
type Flow string

// The ways impact runs.
const (
	Forward  Flow = "forward"  // from A to B: what A contains fails with A
	Backward Flow = "backward" // from B to A: what depends on B fails with B
	Both     Flow = "both"
	None     Flow = "none"
)

// RelationType is a kind of relation, with a name for either way of reading it.
// One whose Inverse is its Name is symmetric.
type RelationType struct {
	Name    string `json:"name"`    // "depends on": shop depends on db-01
	Inverse string `json:"inverse"` // "used by": db-01 is used by shop
	Impact  Flow   `json:"impact"`
	// Pooled relations make their impact's target a pool: with AttrMinUp it is
	// reached only when more of its members fail than it can lose.
	Pooled bool `json:"pooled,omitzero"`
}

// inherited are the attributes of every class.
var inherited = []AttributeSchema{
	{Name: AttrName, Type: TypeString, Title: "Name"},
	{Name: AttrStatus, Type: TypeEnum, Title: "Status", Enum: []string{"planned", "in use", "in maintenance", "out of use"}},
	{Name: AttrEnvironment, Type: TypeString, Title: "Environment"},
	{Name: AttrCriticality, Type: TypeEnum, Title: "Criticality", Enum: []string{"low", "moderate", "high", "critical"}},
	{Name: AttrOwner, Type: TypeString, Title: "Owner"},
	{Name: AttrTags, Type: TypeSet, Title: "Tags"},
	{Name: AttrMinUp, Type: TypeMinUp, Title: "Members that must be up"},
}

// schema is what all classes and relation types say, as last defined.
type schema struct {
	classes   map[string]defined[Class]
	relations map[string]defined[RelationType]
	views     map[string]*class   // of classes, with what they inherit; nil entries are not computed
	sides     map[string]side     // of the names of relation types, both of each
	unique    map[string]struct{} // attributes that are unique in some class
}

// defined is a definition and where the log has it: the latest counts.
type defined[T any] struct {
	at  eventstore.Position
	def T
}

// class is a class with all that it inherits.
type class struct {
	Class
	lineage    []string // itself first, RootClass last
	attributes map[string]attribute
	names      []string // of attributes, sorted
}

// attribute is an attribute as a class has it.
type attribute struct {
	AttributeSchema
	scope string // the topmost class in which it is unique
}

// side is one way of reading a relation type.
type side struct {
	relation RelationType
	inverse  bool // the name is the type's Inverse
}

func newSchema() schema {
	s := schema{classes: map[string]defined[Class]{}, relations: map[string]defined[RelationType]{}}
	s.derive()
	return s
}

// defineClass takes a definition and reports whether it counts.
func (s *schema) defineClass(at eventstore.Position, c Class) bool {
	if old, ok := s.classes[c.Name]; ok && old.at >= at {
		return false
	}
	s.classes[c.Name] = defined[Class]{at, c}
	return true
}

func (s *schema) defineRelation(at eventstore.Position, r RelationType) bool {
	if old, ok := s.relations[r.Name]; ok && old.at >= at {
		return false
	}
	s.relations[r.Name] = defined[RelationType]{at, r}
	return true
}

// derive computes what follows from the definitions. Definitions are few, and
// seldom change.
func (s *schema) derive() {
	s.views = map[string]*class{}
	s.unique = map[string]struct{}{}
	for _, name := range append(sortedKeys(s.classes), RootClass) {
		s.view(name, 0)
	}
	for _, c := range s.views {
		for name, a := range c.attributes {
			if a.Unique {
				s.unique[name] = struct{}{}
			}
		}
	}
	s.sides = map[string]side{}
	for _, name := range sortedKeys(s.relations) {
		r := s.relations[name].def
		s.sides[r.Inverse] = side{r, r.Inverse != r.Name}
	}
	for name, r := range s.relations {
		s.sides[name] = side{r.def, false}
	}
}

// maxLineage bounds how deep classes may stand below RootClass.
const maxLineage = 32

// view computes a class with what it inherits. A class whose lineage does not
// lead to the root, by a loop or a parent that is not defined, has no view: such
// definitions are refused, and a log that has one anyway has no such class.
func (s *schema) view(name string, depth int) *class {
	if c, ok := s.views[name]; ok {
		return c
	}
	d, ok := s.classes[name]
	if !ok && name != RootClass || depth > maxLineage {
		return nil
	}
	c := &class{Class: d.def, attributes: map[string]attribute{}}
	if name == RootClass {
		c.Name, c.Parent = RootClass, ""
		c.lineage = []string{RootClass}
		for _, a := range inherited {
			c.attributes[a.Name] = attribute{AttributeSchema: a}
		}
	} else {
		parent := s.view(d.def.Parent, depth+1)
		if parent == nil || len(parent.lineage) > maxLineage {
			return nil
		}
		c.lineage = append([]string{name}, parent.lineage...)
		for n, a := range parent.attributes {
			c.attributes[n] = a
		}
	}
	for _, a := range d.def.Attributes {
		above := c.attributes[a.Name]
		scope := above.scope
		if a.Unique && scope == "" {
			scope = name
		}
		a.Unique = scope != ""
		a.Required = a.Required || above.Required
		c.attributes[a.Name] = attribute{a, scope}
	}
	c.names = sortedKeys(c.attributes)
	s.views[name] = c
	return c
}

// class returns the class of that name, nil if there is none.
func (s *schema) class(name string) *class { return s.views[name] }

// below reports whether the class of that name is top or stands below it. A
// class that is not known stands below itself only.
func (s *schema) below(name, top string) bool {
	if name == top {
		return true
	}
	c := s.views[name]
	return c != nil && slices.Contains(c.lineage, top)
}

// lineage returns a class and those above it, itself alone if it is not known.
func (s *schema) lineage(name string) []string {
	if c := s.views[name]; c != nil {
		return c.lineage
	}
	return []string{name}
}
