#!/bin/sh
# Like a desktop: i386 beside amd64, locales, keyboard, fonts, other defaults, people with homes.
set -eu
debconf-set-selections <<'TEXT'
keyboard-configuration keyboard-configuration/layoutcode string de
keyboard-configuration keyboard-configuration/variantcode string nodeadkeys
keyboard-configuration keyboard-configuration/model select Generic 105-key PC
tzdata tzdata/Areas select Europe
tzdata tzdata/Zones/Europe select Vienna
TEXT
dpkg --add-architecture i386
apt-get -q update || true # a mirror in the middle of its own update lacks an index
apt-get -qy --no-install-recommends install libc6:i386 zlib1g:i386 libstdc++6:i386 locales keyboard-configuration \
    console-setup vim-tiny nano shared-mime-info desktop-file-utils xdg-utils fonts-dejavu-core fontconfig sudo tzdata
sed -i 's/^# *\(de_AT.UTF-8\|ja_JP.UTF-8\)/\1/' /etc/locale.gen
locale-gen
update-locale LANG=de_AT.UTF-8 LC_MESSAGES=C.UTF-8
ln -sf /usr/share/zoneinfo/Europe/Vienna /etc/localtime
printf 'Europe/Vienna\n' >/etc/timezone
update-alternatives --set editor /usr/bin/vim.tiny
mkdir -p /usr/local/share/mime/packages /usr/local/share/fonts /usr/local/share/applications /opt/game
cat >/usr/local/share/mime/packages/own.xml <<'TEXT'
<?xml version="1.0"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="application/x-own"><glob pattern="*.own"/></mime-type>
</mime-info>
TEXT
update-mime-database /usr/local/share/mime
printf '[Desktop Entry]\nType=Application\nName=Own\nExec=own\nMimeType=application/x-own;\n' >/usr/local/share/applications/own.desktop
update-desktop-database /usr/local/share/applications
cp /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf /usr/local/share/fonts/Own.ttf
cp "$(find /usr/lib/i386-linux-gnu /lib/i386-linux-gnu -name 'libz.so.1.*' | head -n 1)" /opt/game/libgame32.so.1
printf '/opt/game\n' >/etc/ld.so.conf.d/game.conf
ldconfig
useradd --create-home --shell /bin/bash --comment 'Anna' --groups sudo,audio,video,plugdev anna
mkdir -p /home/anna/.config/app /home/anna/.ssh /home/anna/Documents
printf 'theme=dark\n' >/home/anna/.config/app/settings.ini
printf 'letter\n' >/home/anna/Documents/letter.txt
printf 'key\n' >/home/anna/.ssh/id_ed25519
chmod 700 /home/anna/.ssh
chmod 600 /home/anna/.ssh/id_ed25519
chown -R anna:anna /home/anna
printf 'XKBOPTIONS="ctrl:nocaps"\n' >>/etc/default/keyboard
printf 'EDITOR=vim\n' >>/etc/environment
apt-mark auto fonts-dejavu-core
apt-mark hold vim-tiny
systemctl set-default graphical.target
