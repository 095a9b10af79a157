package spec

import (
	"reflect"
	"unsafe"
)

// same reports whether a and b are the same value to a reader of their JSON:
// as reflect.DeepEqual, but types with a method Equal are compared by it, so
// times as instants, and an empty slice or map is equal to nil.
func same(a, b any) bool {
	return equal(reflect.ValueOf(a), reflect.ValueOf(b), map[pair]bool{})
}

// pair is a comparison made or under way. Met again it counts as equal: had it
// been unequal, the comparison would be over.
type pair struct {
	a, b unsafe.Pointer
	typ  reflect.Type
}

func equal(a, b reflect.Value, seen map[pair]bool) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	if result, ok := byMethod(a, b); ok {
		return result
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map:
		p := pair{a.UnsafePointer(), b.UnsafePointer(), a.Type()}
		if seen[p] {
			return true
		}
		seen[p] = true
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Interface:
		return equal(a.Elem(), b.Elem(), seen)
	case reflect.Struct:
		for i := range a.NumField() {
			if !equal(a.Field(i), b.Field(i), seen) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i), seen) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, key := range a.MapKeys() {
			if !equal(a.MapIndex(key), b.MapIndex(key), seen) {
				return false
			}
		}
		return true
	case reflect.Func:
		return a.IsNil() && b.IsNil()
	default:
		return a.Equal(b)
	}
}

// byMethod compares by the method Equal of a type that has one.
func byMethod(a, b reflect.Value) (result, ok bool) {
	if !a.CanInterface() || a.Kind() == reflect.Interface || a.Kind() == reflect.Pointer && (a.IsNil() || b.IsNil()) {
		return false, false
	}
	method := a.MethodByName("Equal")
	if !method.IsValid() {
		return false, false
	}
	t := method.Type()
	if t.NumIn() != 1 || t.In(0) != a.Type() || t.NumOut() != 1 || t.Out(0).Kind() != reflect.Bool || t.IsVariadic() {
		return false, false
	}
	return method.Call([]reflect.Value{b})[0].Bool(), true
}
