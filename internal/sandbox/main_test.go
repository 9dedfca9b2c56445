package sandbox

import ("testing";"os")

func TestMain(m *testing.M) { Init(); os.Exit(m.Run()) }
