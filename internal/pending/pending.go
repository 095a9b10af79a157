// Package pending keeps modules in go.mod that rooms under construction need.
package pending
