from pylon.host import hardware

# Its beginning, after what `ioreg` prints on Macs; the id is made up.
IOREG = """+-o J314sAP  <class IOPlatformExpertDevice, id 0x100000110, registered, matched, active>
    {
      "IOPlatformSerialNumber" = "XXXXXXXXXX"
      "IOPlatformUUID" = "00000000-0000-1000-8000-0123456789AB"
      "IOBusyInterest" = "IOCommand is not serializable"
    }
"""


def test_a_macs_id_is_found_in_what_ioreg_prints():
    assert hardware.platform_uuid(IOREG) == "00000000-0000-1000-8000-0123456789AB"
    assert hardware.platform_uuid("") == ""


def test_a_mark_stays_the_same_and_does_not_show_the_id(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    file = tmp_path / "machine-id"
    monkeypatch.setattr(hardware, "_LINUX", (file,))
    assert hardware.machine_mark() == ""
    file.write_text("uninitialized\n")
    assert hardware.machine_mark() == ""
    file.write_text("0123456789abcdef0123456789abcdef\n")
    mark = hardware.machine_mark()
    assert mark == hardware.machine_mark() and len(mark) == 32 and "0123456789abcdef" not in mark
    file.write_text("1123456789abcdef0123456789abcdef\n")
    assert hardware.machine_mark() != mark
